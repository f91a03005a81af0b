"""The small CPU image of Triton that tritonnb builds itself, since NVIDIA publishes none."""

from tritonnb.engines.cpu_image.build import DEFAULT_TAG, BuiltImage, build_image

__all__ = ["DEFAULT_TAG", "BuiltImage", "build_image"]
