"""Training of vision encoders and of multimodal models."""

import logging

logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it advises about kernels in runs that do not use it
