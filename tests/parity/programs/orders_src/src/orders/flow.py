from decimal import Decimal

from orders.money import UnknownCurrency, to_euro
from pipedeco import component, pipeline


@component
def convert(amount, code):
    return to_euro(Decimal(amount), code)


@component
def book(euros):
    with open("ledger.txt", "a") as file:
        file.write(f"{euros:.2f}\n")
    return euros


@pipeline
def convert_all(entries):
    booked, refused = [], []
    for amount, code in entries:
        try:
            booked.append(book(convert(amount, code) + 0) + 0)
        except UnknownCurrency as error:
            refused.append(error.code)
    return sum(booked), refused
