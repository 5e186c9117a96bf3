"""The model family: a vision encoder, a bridge and a causal language model, in transformers' own conventions.

Importing this package registers the family with `AutoConfig`, `AutoModel`, `AutoModelForImageTextToText` and
`AutoProcessor`, so that their `from_pretrained` reads our folders.
"""

from importlib.util import find_spec

from lhrs.errors import MissingExtraError

if _missing := [name for name in ("torch", "transformers") if find_spec(name) is None]:
    raise MissingExtraError(f"models need {' and '.join(_missing)}: pip install 'lhrs[torch]'")

from lhrs.models.configuration import LHRSBridgeConfig, LHRSConfig
from lhrs.models.modeling import LHRSForConditionalGeneration
from lhrs.models.processing import LHRSProcessor

__all__ = ["LHRSBridgeConfig", "LHRSConfig", "LHRSForConditionalGeneration", "LHRSProcessor"]
