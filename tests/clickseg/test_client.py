"""What a client says about servers that are none."""

import socket
import threading

import pytest

from clickseg import cli
from clickseg.client import PreviewClient

SSH = b"SSH-2.0-OpenSSH_9.2\r\n"
BROKEN_OFF = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{}"


@pytest.fixture
def answering():
    """answering(bytes): the URL of somebody who says these whatever is asked, and hangs up."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def start(answer):
            def serve():
                connection, _ = server.accept()
                with connection:
                    connection.sendall(answer)
                    connection.shutdown(socket.SHUT_WR)
                    while connection.recv(65536):  # who closes on what was not read would break off the answer, too
                        pass

            threading.Thread(target=serve, daemon=True).start()
            return f"http://127.0.0.1:{server.getsockname()[1]}"

        yield start


@pytest.mark.parametrize("answer", [SSH, BROKEN_OFF], ids=["ssh", "broken off"])
def test_what_is_no_http_server_or_hangs_up_does_not_answer(answering, answer):
    with pytest.raises(OSError, match="what answers is no HTTP server, or broke off"):
        PreviewClient(answering(answer), "unet2d", "study").preview({"foreground": [[1, 2, 3]]})


def test_the_command_line_says_so_in_a_sentence(answering, capsys):
    url = answering(SSH)
    assert cli.main(["preview", url, "study", "--click", "1,2,3"]) == 2
    assert capsys.readouterr().err.startswith(f"clickseg preview: no server answers at {url}: what answers is no HTTP")


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"{}", "is no MONAI Label server: it names no models"),
        (b"[1]", "is no MONAI Label server: it names no models"),
        (b'{"models": 3}', "is no MONAI Label server: it names no models"),
        (b"<html>", "the server answers with no JSON, but with b'<html>'"),
    ],
)
def test_another_kind_of_server_is_said_to_be_one(answering, content, complaint, capsys):
    url = answering(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(content) + content)
    assert cli.main(["preview", url, "study", "--click", "1,2,3"]) == 2
    assert complaint in capsys.readouterr().err


@pytest.mark.parametrize("server", ["foo", "127.0.0.1:8000", "ftp://127.0.0.1"])
def test_what_is_no_address_of_a_server_is_said_to_be_none(server, capsys):
    assert cli.main(["preview", server, "study", "--click", "1,2,3"]) == 2
    assert capsys.readouterr().err == (
        f"clickseg preview: '{server}' is no http(s) address of a server, such as http://127.0.0.1:8000\n"
    )


def test_a_picture_that_cannot_be_written_is_said_before_the_server_is_asked(capsys):
    url = "http://127.0.0.1:9"  # nobody answers there
    assert cli.main(["preview", url, "study", "--click", "1,2,3", "--output", "slice.xyz"]) == 2
    assert capsys.readouterr().err == "clickseg preview: --output must end in .png, got slice.xyz\n"
