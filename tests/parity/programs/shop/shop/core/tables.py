def parse_table(text):
    pairs = (line.split("=") for line in text.splitlines() if line.strip())
    return {name.strip(): float(number) for name, number in pairs}
