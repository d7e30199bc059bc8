"""What embedding a very large gallery takes: device hours, days, money, bytes.

python -m tools.scale_plan
python -m tools.scale_plan --rate 150 --price 2.5

Without --rate the table is a plan, not a measurement: Stable Diffusion 2.1 at 512 px,
bfloat16, at half of each device's roofline (the rate of perfect kernels, limited by
arithmetic or by memory traffic). Measure your own device with `tools/bench.py` and give
its rate.
"""

import argparse
from typing import NamedTuple

# Photos, and how many devices work on them at a time.
PLANS = {10_000_000: 8, 5_000_000_000: 256}
# Operations of a descriptor: the autoencoder runs once, the UNet once for each copy.
GFLOP = {1: 1555, 6: 3750}
DIM = 2560  # two levels of 1,280 channels


class Device(NamedTuple):
    """Images per second of perfect kernels with one noise copy; dollars an hour.

    The roofline is computed from the H200's matrix rate as measured (790 TFLOP/s) and
    from the vendor's figures for the TPUs. Prices are round assumptions.
    """

    name: str
    roofline: float
    price: float


DEVICES = (
    Device("H200", 414, 4.0),
    Device("TPU v5e chip", 91, 1.2),
    Device("TPU v6e chip", 221, 2.7),
)
SHARE = 0.5


def rows(name: str, rate: float, price: float) -> list[str]:
    """A line of the table for each number of photos and of noise copies.

    Args:
      rate: images per second of one device with one copy. price: dollars an hour.
    """
    lines = []
    for photos, devices in PLANS.items():
        for copies, gflop in GFLOP.items():
            each = rate * GFLOP[1] / gflop
            hours = photos / each / 3600
            days = hours / devices / 24
            lines.append(
                f"| {photos:,} | {name} | {copies} | {each:,.3g} | {hours:,.0f} "
                f"| {devices} | {days:,.2f} | {hours * price:,.0f} |"
            )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rate", type=float, help="images/s, one copy, one device")
    parser.add_argument("--price", type=float, default=4.0, help="dollars an hour")
    args = parser.parse_args()
    devices = [(d.name, SHARE * d.roofline, d.price) for d in DEVICES]
    if args.rate:
        devices = [("yours", args.rate, args.price)]
    print("| photos | device | copies | images/s | hours | devices | days | dollars |")
    print("|---|---|---|---|---|---|---|---|")
    for device in devices:
        print("\n".join(rows(*device)))
    for photos in PLANS:
        size = photos * DIM * 2
        print(f"\n{photos:,} descriptors of {DIM} float16: {size / 1e9:,.0f} GB")


if __name__ == "__main__":
    main()
