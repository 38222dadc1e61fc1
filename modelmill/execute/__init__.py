"""Where work runs: worker processes that may crash, hang or grow without taking the mill with them."""
