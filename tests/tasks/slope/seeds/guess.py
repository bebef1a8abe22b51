from points import loss, read

SLOPE = 1.0  # -3..3
OFFSET = 0.0  # -1..1

print("val_loss:", loss(SLOPE, OFFSET, read()[1]))
