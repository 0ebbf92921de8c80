import inspect
import sys
from types import SimpleNamespace

from fastapi import FastAPI
from fastapi.responses import FileResponse

from lib.server import routes


def test_routes_of_ours_come_first_and_once_and_files_go_out_in_large_pieces(monkeypatch):
    app = FastAPI()
    stock_route = object()
    app.router.routes.append(stock_route)
    monkeypatch.setitem(sys.modules, "monailabel.app", SimpleNamespace(app=app))
    monkeypatch.setattr(FileResponse, "chunk_size", 64 * 1024)
    routes.add_routes()
    after_one = list(app.router.routes)
    routes.add_routes()
    assert app.router.routes == after_one
    assert after_one[0] is not stock_route
    assert stock_route in after_one
    assert FileResponse.chunk_size == routes.REPLY_CHUNK


def test_outside_the_server_nothing_is_changed(monkeypatch):
    monkeypatch.delitem(sys.modules, "monailabel.app", raising=False)
    monkeypatch.setattr(FileResponse, "chunk_size", 64 * 1024)
    routes.add_routes()
    assert FileResponse.chunk_size == 64 * 1024


def test_a_click_is_computed_in_the_thread_pool_so_that_others_are_answered_meanwhile():
    assert not inspect.iscoroutinefunction(routes.infer)
