LINES = 4  # 1..12
SIZE = 11.0  # 8.0..20.0


def leaflet():
    return ["Tell us what you think."] * LINES, SIZE


print(leaflet())
