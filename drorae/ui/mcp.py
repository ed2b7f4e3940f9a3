"""The endpoints as MCP tools. Gradio serves them; what its server gets wrong for pictures and JSON is fixed here."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, get_type_hints
from urllib.parse import unquote

import gradio as gr
from anyio.to_thread import run_sync
from gradio.mcp import GradioMCPServer
from gradio_client import handle_file
from gradio_client.utils import is_file_obj_with_meta
from pydantic import TypeAdapter

from drorae.ui.visitors import vouch

PICTURES = (
    " A picture is given as a public http(s) URL, as a data URL, as the path that uploading a local file answers"
    " (curl -F files=@photo.jpg SERVER/gradio_api/upload), or as the URL of an earlier answer."
)
UNEXPLAINED = "The server could not do this; a picture's URL must be one that it can fetch. Its log says more."


def mcp_options(demo: gr.Blocks, options: dict[str, Any]) -> dict[str, Any]:
    """Arguments of ``demo.launch`` that also serve the public endpoints as MCP tools, at ``/gradio_api/mcp/``.

    Args:
        options: the other arguments of ``demo.launch``, which are among those returned.

    Raises:
        ImportError: the package mcp is not installed.
    """
    demo.mcp_server_obj = ToolServer(demo)
    demo.mcp_server = True
    # with mcp_server=True Gradio would put its own server in the place of this one
    app_kwargs = options.get("app_kwargs", {}) | {"lifespan": demo.mcp_server_obj.lifespan}
    return options | {"mcp_server": False, "app_kwargs": app_kwargs}


class ToolServer(GradioMCPServer):
    """Gradio's MCP server, with valid schemas, lists of pictures, several outputs, JSON and errors in a sentence."""

    _file_data_tool_description = PICTURES

    def get_input_schema(
        self, tool_name: str, parameters: dict[str, str] | None = None
    ) -> tuple[dict[str, Any], list[list[str | int]]]:
        """Types from the function's annotations. Those of Gradio's components are not a valid schema for JSON and lists
        of files, and do not know null."""
        schema, positions = super().get_input_schema(tool_name, parameters)
        hints = get_type_hints(self.get_block_fn_from_endpoint_name(self.tool_to_endpoint[tool_name]).fn)
        for name, known in schema["properties"].items():
            kind = TypeAdapter(hints[name]).json_schema()
            if name in schema.get("required", ()):
                kind = kind.get("anyOf", [kind])[0]  # without null
            schema["properties"][name] = kind | {key: known[key] for key in ("description", "default") if key in known}
        return schema, positions

    def convert_strings_to_filedata(self, value: Any, filedata_positions: list[list[str | int]]) -> Any:
        """The arguments with pictures, alone or in a list, as files."""
        names = {position[0] for position in filedata_positions}
        return {name: self.picture_file(each) if name in names else each for name, each in value.items()}

    def picture_file(self, picture: str | list[str]) -> Any:
        """A picture as a file. A path is taken only if it was uploaded to this page or made by it, and so is a URL of
        this page, which Gradio would refuse to fetch from a private address."""
        if isinstance(picture, list):
            return [self.picture_file(each) for each in picture]
        path = unquote(picture.rpartition("/gradio_api/file=")[2])
        if any(path in files for files in self.blocks.temp_file_sets):
            return handle_file(path)
        try:
            file = super().convert_strings_to_filedata(picture, [[]])
        except ValueError:
            raise ValueError(
                f"'{picture[:80]}' is neither an http(s) URL nor a data URL, and was not uploaded here."
            ) from None
        if picture.startswith("data:"):
            self.blocks.upload_file_set.add(file["path"])  # to be deleted as all pictures are
        return file

    def _prepare_tool_call_args(
        self, name: str, arguments: dict[str, Any]
    ) -> tuple[str, list[Any], dict[str, str], Any]:
        """What to call and how; for whom, too, since Gradio asks the page in one session for all agents."""
        endpoint, values, headers, function = super()._prepare_tool_call_args(name, arguments)
        request = self.mcp_server.request_context.request
        return endpoint, values, headers | ({} if request is None else vouch(request)), function

    async def _execute_tool_without_progress(self, job: Any) -> list[Any]:
        with plain_errors():
            result = await run_sync(job.result)
        return list(result) if isinstance(result, tuple) else [result]  # a tuple: several outputs

    async def _execute_tool_with_progress(self, job: Any, progress_token: str | int) -> Any:
        with plain_errors():
            return await super()._execute_tool_with_progress(job, progress_token)

    def postprocess_output_data(self, data: Any, root_url: str) -> list[Any]:
        """Pictures as images, everything else as JSON, where Gradio would write Python."""
        texts = [output if is_file_obj_with_meta(output) else json.dumps(output) for output in data]
        return super().postprocess_output_data(texts, root_url)


@contextmanager
def plain_errors() -> Iterator[None]:
    """Errors of a call as the sentence alone, also where Gradio says nothing of use."""
    try:
        yield
    except (RuntimeError, ValueError) as error:
        text = str(error).removeprefix("Error: ")
        unexplained = text == "Error!" or "show_error" in text
        raise ValueError(UNEXPLAINED if unexplained else text) from None
