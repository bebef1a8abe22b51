WORDS = 20  # 5..60
BOLD = 0.5  # 0.0..1.0


def leaflet():
    loud = int(WORDS * BOLD)
    return ["Write!"] * loud + ["write"] * (WORDS - loud)


print(leaflet())
