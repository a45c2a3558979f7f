"""Validate invoices with pydantic, and add them up with decimals."""

import json
from datetime import date
from decimal import Decimal

from pydantic import BaseModel, Field, ValidationError, computed_field, field_validator

from pipedeco import component, pipeline


class Line(BaseModel):
    text: str
    amount: Decimal = Field(gt=0)
    tax: Decimal = Decimal("0.19")

    @computed_field
    @property
    def gross(self) -> Decimal:
        return (self.amount * (1 + self.tax)).quantize(Decimal("0.01"))


class Invoice(BaseModel):
    number: int
    day: date
    lines: list[Line]

    @field_validator("lines")
    @classmethod
    def some(cls, lines):
        if not lines:
            raise ValueError("an invoice has lines")
        return lines


DOCUMENTS = [
    {"number": 1, "day": "2024-01-31", "lines": [{"text": "work", "amount": "100.10"}]},
    {"number": 2, "day": "2024-02-01", "lines": []},
    {"number": 3, "day": "2024-02-02", "lines": [{"text": "tea", "amount": "2.5", "tax": "0.07"}]},
]


@component
def parse(document: dict) -> Invoice:
    return Invoice.model_validate_json(json.dumps(document))


@component
def total(invoices: list[Invoice]) -> Decimal:
    return sum((line.gross for invoice in invoices for line in invoice.lines), Decimal(0))


@pipeline
def bill(documents):
    good = []
    for document in documents:
        try:
            good.append(parse(document).model_copy())
        except ValidationError as error:
            print(f"refused {document['number']}: {error.errors()[0]['msg']}")
    return total(good), good[-1].model_dump_json()


if __name__ == "__main__":
    for part in bill(DOCUMENTS):
        print(part)
