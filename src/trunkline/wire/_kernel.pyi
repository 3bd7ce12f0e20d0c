from trunkline.wire.exposition import ExpositionParser as ExpositionParser
from trunkline.wire.remote_write import encode_labels as encode_labels
from trunkline.wire.template import Template as Template
from trunkline.wire.template import join as join

def read_decimal(text: bytes) -> float | None: ...
