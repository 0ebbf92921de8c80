import contextlib
import socket
import sys
import threading
import time
from types import SimpleNamespace

import pytest
import requests
import uvicorn
from fastapi import FastAPI, Response
from fastapi.middleware import Middleware
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import FileResponse
from fastapi.testclient import TestClient
from monailabel.config import Settings, settings

from lib.server import routes

EVIL = "http://evil.example"


@pytest.fixture
def app(monkeypatch):
    """A server as MONAI Label makes it, which loads the app while it starts; `written` is what pages have changed."""

    @contextlib.asynccontextmanager
    async def lifespan(app):
        routes.add_routes()
        yield

    everything = {"allow_credentials": True, "allow_methods": ["*"], "allow_headers": ["*"]}
    app = FastAPI(lifespan=lifespan, middleware=[Middleware(CORSMiddleware, allow_origins=["*"], **everything)])
    app.written = []

    @app.get("/patient")
    def patient():
        return "an image"

    @app.get("/strict")
    def strict():
        return Response(headers={"Content-Security-Policy": "default-src 'self'"})

    @app.post("/change")
    @app.put("/change")
    @app.delete("/change")
    def change():
        app.written.append("changed")

    monkeypatch.setitem(sys.modules, "monailabel.app", SimpleNamespace(app=app))
    monkeypatch.setattr(FileResponse, "chunk_size", FileResponse.chunk_size)
    return app


@pytest.fixture
def name_origins(monkeypatch):
    """name_origins(text): start the server with this setting, as it is read from the environment."""

    def name(text):
        monkeypatch.setenv("MONAI_LABEL_CORS_ORIGINS", text)
        monkeypatch.setattr(settings, "MONAI_LABEL_CORS_ORIGINS", Settings().MONAI_LABEL_CORS_ORIGINS)

    return name


@contextlib.contextmanager
def started(app):
    """The address of the running server, on this machine only."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture
def url(app):
    with started(app) as url:
        yield url


@pytest.mark.parametrize("origin", [EVIL, "https://evil.example", "null", "http://127.0.0.1:1", "http://127.0.0.1", ""])
def test_a_page_of_another_site_neither_changes_nor_reads_anything(url, app, origin):
    for method in ("POST", "PUT", "DELETE"):
        reply = requests.request(method, f"{url}/change", headers={"Origin": origin})
        assert reply.status_code == 403
        assert "MONAI_LABEL_CORS_ORIGINS" in reply.json()["detail"]
    simple = requests.post(f"{url}/change", data="x", headers={"Origin": origin, "Content-Type": "text/plain"})
    assert simple.status_code == 403, "a browser asks no leave for it"
    reading = requests.get(f"{url}/patient", headers={"Origin": origin})
    leave = requests.options(f"{url}/change", headers={"Origin": origin, "Access-Control-Request-Method": "PUT"})
    for reply in (reading, leave):
        assert reply.status_code == 403
        assert "image" not in reply.text
        assert not [header for header in reply.headers if header.lower().startswith("access-control-")]
    assert app.written == []


def test_the_servers_own_pages_work_under_each_of_its_names(url, app):
    port = url.rpartition(":")[2]
    names = ["127.0.0.1", "localhost", "LOCALHOST", "app.localhost", "[::1]", "192.168.1.20", "workstation"]
    for name in names:
        sent = {"Host": f"{name}:{port}", "Origin": f"http://{name.lower()}:{port}"}
        assert requests.put(f"{url}/change", headers=sent).status_code == 200, name
    assert len(app.written) == len(names)


def test_who_is_no_browser_sends_no_origin_and_works_as_before(url, app):
    assert requests.get(f"{url}/patient").json() == "an image"
    assert requests.put(f"{url}/change").status_code == 200
    assert requests.get(f"{url}/clickseg/").status_code == 200
    assert app.written == ["changed"]


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "[evil.example"])
def test_a_name_that_somebody_has_made_mean_this_machine_gets_nothing(url, app, host):
    """DNS rebinding: the page's own site is this machine all of a sudden, so that its requests are no foreign ones."""
    host += url[url.rindex(":") :]
    assert requests.get(f"{url}/patient", headers={"Host": host}).status_code == 403
    reply = requests.put(f"{url}/change", headers={"Host": host, "Origin": f"http://{host}"})
    assert reply.status_code == 403
    assert reply.json()["detail"].startswith(
        f"a request from this machine for {host}, which is no name of this machine"
    )
    assert app.written == []


def test_where_other_machines_come_too_any_name_may_be_the_servers(app):
    with TestClient(app, base_url="http://gpu.hospital.example:8000") as client:
        own = {"Origin": "http://gpu.hospital.example:8000"}
        assert client.put("/change", headers=own).status_code == 200
        assert client.put("/change", headers={"Origin": EVIL}).status_code == 403
    assert app.written == ["changed"]


def test_pages_that_the_setting_names_may_read_and_change_and_no_others(app, name_origins):
    name_origins('["http://localhost:3000", "https://ohif.example.org/viewer/"]')
    with started(app) as url:
        for origin in ("http://localhost:3000", "https://ohif.example.org"):
            asked = {"Origin": origin, "Access-Control-Request-Method": "PUT"}
            for reply in (
                requests.options(f"{url}/change", headers=asked),
                requests.put(f"{url}/change", headers={"Origin": origin}),
                requests.get(f"{url}/patient", headers={"Origin": origin}),
            ):
                assert reply.status_code == 200
                assert reply.headers["Access-Control-Allow-Origin"] == origin
        for origin in (
            EVIL,
            "http://localhost:3001",
            "http://ohif.example.org",
            "https://ohif.example.org.evil.example",
        ):
            assert requests.put(f"{url}/change", headers={"Origin": origin}).status_code == 403
    assert len(app.written) == 2


@pytest.mark.parametrize("host", ["seg.example.org", "seg.example.org:443", "127.0.0.1:8000", "backend"])
def test_behind_a_proxy_the_server_has_the_name_that_is_named_whatever_the_proxy_calls_it(app, name_origins, host):
    name_origins('["https://seg.example.org"]')
    with started(app) as url:
        assert requests.get(f"{url}/patient", headers={"Host": host}).status_code == 200
        sent = {"Host": host, "Origin": "https://seg.example.org"}
        assert requests.put(f"{url}/change", headers=sent).status_code == 200
        assert requests.put(f"{url}/change", headers=sent | {"Origin": EVIL}).status_code == 403
    assert app.written == ["changed"]


def test_behind_a_proxy_that_encrypts_and_passes_the_name_on_pages_need_only_the_name(app):
    with TestClient(app, base_url="http://seg.example.org") as client:
        assert client.put("/change", headers={"Origin": "https://seg.example.org"}).status_code == 200


def fetched(site, mode, dest, **more):
    """What a browser says of a request."""
    return {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": mode, "Sec-Fetch-Dest": dest, **more}


@pytest.mark.parametrize(
    ("mode", "dest"),
    [
        ("no-cors", "image"),
        ("no-cors", "script"),
        ("no-cors", "empty"),
        ("navigate", "iframe"),
        ("navigate", "object"),
        ("no-cors", "document"),
    ],
)
def test_what_a_page_of_another_site_embeds_is_refused_though_it_names_no_origin(url, mode, dest):
    for path in ("patient", "clickseg/"):
        reply = requests.get(f"{url}/{path}", headers=fetched("cross-site", mode, dest))
        assert reply.status_code == 403
        assert "MONAI_LABEL_CORS_ORIGINS" in reply.json()["detail"]


def test_links_from_another_site_and_what_our_own_pages_embed_work(url):
    for sent in (
        fetched("cross-site", "navigate", "document"),
        fetched("none", "navigate", "document"),
        fetched("same-origin", "no-cors", "image"),
        fetched("same-origin", "cors", "empty"),
        fetched("same-site", "navigate", "iframe"),
    ):
        assert requests.get(f"{url}/patient", headers=sent).status_code == 200, sent


def test_a_page_of_another_site_that_the_setting_names_may_ask_with_its_origin(app, name_origins):
    name_origins('["https://ohif.example.org"]')
    with started(app) as url:
        named = fetched("cross-site", "cors", "image", Origin="https://ohif.example.org")
        assert requests.get(f"{url}/patient", headers=named).status_code == 200
        assert requests.get(f"{url}/patient", headers=named | {"Origin": EVIL}).status_code == 403
        assert requests.get(f"{url}/patient", headers=fetched("cross-site", "no-cors", "image")).status_code == 403


def test_only_our_own_pages_may_frame_any_answer(url):
    for path in ("patient", "clickseg/", "clickseg/nothing"):
        reply = requests.get(f"{url}/{path}")
        assert reply.headers["Content-Security-Policy"] == "frame-ancestors 'self'", path
    refused = requests.get(f"{url}/patient", headers={"Origin": EVIL})
    assert refused.headers["Content-Security-Policy"] == "frame-ancestors 'self'"


def test_a_policy_that_an_answer_has_already_stays_beside_that_of_frames(url):
    policies = requests.get(f"{url}/strict").raw.headers.getlist("Content-Security-Policy")
    assert sorted(policies) == ["default-src 'self'", "frame-ancestors 'self'"]


def test_pages_that_the_setting_names_may_frame_ours(app, name_origins):
    name_origins('["http://localhost:3000", "https://ohif.example.org/viewer/"]')
    with started(app) as url:
        policy = requests.get(f"{url}/clickseg/").headers["Content-Security-Policy"]
    assert policy == "frame-ancestors 'self' http://localhost:3000 https://ohif.example.org"


def test_on_its_own_machine_the_server_knows_the_machines_full_name(app, monkeypatch):
    """Debian lets it mean 127.0.1.1."""
    monkeypatch.setattr(socket, "getfqdn", lambda: "WS1.hospital.example")
    with started(app) as url:
        host = "ws1.hospital.example" + url[url.rindex(":") :]
        assert requests.get(f"{url}/patient", headers={"Host": host}).status_code == 200
        assert requests.put(f"{url}/change", headers={"Host": host, "Origin": f"http://{host}"}).status_code == 200
        assert requests.get(f"{url}/patient", headers={"Host": f"other.{host}"}).status_code == 403
