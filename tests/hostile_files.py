"""All files that try published attacks: `ATTACKS`, name -> `Attack`."""

import hostile_bombs
import hostile_code
import hostile_links
from hostile_base import ATTACKS, h5_net, keras_net

__all__ = ["ATTACKS", "h5_net", "hostile_bombs", "hostile_code", "hostile_links", "keras_net"]
