"""Three sources are extracted and transformed side by side, then brought together."""

import msgspec

from tasker import Template


class Window(msgspec.Struct):
    """Which days, and how many rows each source has for a day."""

    days: int
    sales: int = 40
    inventory: int = 25
    customers: int = 10


class Extract(msgspec.Struct):
    source: str
    values: list[int]


class Totals(msgspec.Struct):
    source: str
    rows: int
    total: int


class Aggregate(msgspec.Struct):
    rows: dict[str, int]
    total: int


class Insights(msgspec.Struct):
    rows: int
    total: int
    largest_source: str


data_pipeline = Template("data_pipeline")


@data_pipeline.step
def extract_sales(input: Window) -> Extract:
    return Extract("sales", list(range(input.days * input.sales)))


@data_pipeline.step
def extract_inventory(input: Window) -> Extract:
    return Extract("inventory", list(range(input.days * input.inventory)))


@data_pipeline.step
def extract_customers(input: Window) -> Extract:
    return Extract("customers", list(range(input.days * input.customers)))


def totals(extract: Extract) -> Totals:
    return Totals(extract.source, len(extract.values), sum(extract.values))


@data_pipeline.step
def transform_sales(extract_sales: Extract) -> Totals:
    return totals(extract_sales)


@data_pipeline.step
def transform_inventory(extract_inventory: Extract) -> Totals:
    return totals(extract_inventory)


@data_pipeline.step
def transform_customers(extract_customers: Extract) -> Totals:
    return totals(extract_customers)


@data_pipeline.step
def aggregate(transform_sales: Totals, transform_inventory: Totals, transform_customers: Totals) -> Aggregate:
    parts = (transform_sales, transform_inventory, transform_customers)
    return Aggregate({part.source: part.rows for part in parts}, sum(part.total for part in parts))


@data_pipeline.step
def insights(aggregate: Aggregate) -> Insights:
    largest = max(aggregate.rows, key=lambda source: aggregate.rows[source])
    return Insights(sum(aggregate.rows.values()), aggregate.total, largest)


EXPECTED = [
    (
        {"days": 2},
        {
            "rows": 150,
            "total": sum(range(80)) + sum(range(50)) + sum(range(20)),
            "largest_source": "sales",
        },
    ),
]
