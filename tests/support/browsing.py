"""What tests in a browser share."""

import base64

import numpy as np


def bytes_of(page, expression):
    """The bytes of a Uint8Array of the page. As text: playwright takes seconds for a list of as many numbers."""
    text = page.evaluate(
        f"""() => {{
            const bytes = {expression};
            let text = "";
            for (let at = 0; at < bytes.length; at += 8192) {{
                text += String.fromCharCode(...bytes.subarray(at, at + 8192));
            }}
            return btoa(text);
        }}"""
    )
    return np.frombuffer(base64.b64decode(text), np.uint8)


def map_in_file_order(page):
    """The label map of the study that is open, in the order of the image's file."""
    values = bytes_of(page, "clickseg.editor().frame.sourceOrder(clickseg.editor().map)")
    return values.reshape(page.evaluate("clickseg.editor().frame.dims"), order="F")
