class Base:
    def __init__(self, text):
        self.text = text
