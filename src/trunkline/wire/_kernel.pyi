from trunkline.wire.exposition import ExpositionParser as ExpositionParser
from trunkline.wire.label_sets import LabelSets as LabelSets
from trunkline.wire.label_sets import encode_scraped as encode_scraped
from trunkline.wire.label_sets import merge_labels as merge_labels
from trunkline.wire.remote_write import encode_labels as encode_labels
from trunkline.wire.template import Template as Template
from trunkline.wire.template import join as join

def read_decimal(text: bytes) -> float | None: ...
