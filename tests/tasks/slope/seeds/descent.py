from points import loss, read

RATE = 0.05  # log 0.001..0.5
STEPS = 20  # 5..200

train, held_out = read()
slope, offset = 0.0, 0.0
for _ in range(STEPS):
    errors = [(slope * x + offset - y, x) for x, y in train]
    slope -= RATE * 2 * sum(error * x for error, x in errors) / len(train)
    offset -= RATE * 2 * sum(error for error, _ in errors) / len(train)

print("---")
print(f"val_loss:          {loss(slope, offset, held_out):.6f}")
