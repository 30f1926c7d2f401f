"""Models as people hold them: specs by name, checkpoint files, exports for other programs, and text from a model."""

from node.models.errors import ModelError
from node.models.specs import find_spec, list_specs
from node.models.state_file import ModelState, read_state, write_state

__all__ = ["ModelError", "ModelState", "find_spec", "list_specs", "read_state", "write_state"]
