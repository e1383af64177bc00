"""The examples as one worker app: a worker serves any number of templates."""

from examples.always_fails import always_fails
from examples.approval_routing import approval_routing
from examples.checkpointed_batch import checkpointed_batch
from examples.csv_inventory import csv_inventory
from examples.data_pipeline import data_pipeline
from examples.diamond4 import diamond4
from examples.fail_twice import fail_twice
from examples.fanout100 import fanout100
from examples.hello import hello
from examples.human_review import human_review
from examples.linear4 import linear4
from examples.linear_math import linear_math
from examples.mixed_dag import mixed_dag
from examples.one import one
from examples.orders.orders import orders
from examples.parent_child import parcel, shipment
from examples.polling_loop import polling_loop
from examples.tree import tree
from examples.user_registration import user_registration

__all__ = [
    "always_fails",
    "approval_routing",
    "checkpointed_batch",
    "csv_inventory",
    "data_pipeline",
    "diamond4",
    "fail_twice",
    "fanout100",
    "hello",
    "human_review",
    "linear4",
    "linear_math",
    "mixed_dag",
    "one",
    "orders",
    "parcel",
    "polling_loop",
    "shipment",
    "tree",
    "user_registration",
]
