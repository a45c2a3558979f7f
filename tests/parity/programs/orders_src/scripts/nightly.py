from orders.flow import convert_all

ENTRIES = [("10.00", "EUR"), ("5.50", "USD"), ("7", "XXX"), ("100", "CHF")]

if __name__ == "__main__":
    total, refused = convert_all(ENTRIES)
    print(f"total {total}, refused {refused}")
