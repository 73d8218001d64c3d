"""Fashion-MNIST: 70,000 pieces of clothing in the format of MNIST, and harder; downloaded once, 30 MB."""

from __future__ import annotations

from kd_engine.datasets._idx import IdxDataset


class FashionMnist(IdxDataset):
    name = "fashion-mnist"
    title = "Fashion-MNIST"
    help = "70,000 pieces of clothing, grey, 28×28 in the middle of 32×32: MNIST's harder sister."
    source = "Xiao, Rasul, Vollgraf: Fashion-MNIST, 2017"
    folders = ("fashion-mnist", "FashionMNIST/raw")
    classes = (
        *("T-shirt", "trousers", "pullover", "dress", "coat"),
        *("sandal", "shirt", "sneaker", "bag", "ankle boot"),
    )
    mirrors = ("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",)
    md5 = (
        "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        "25c81989df183df01b3e8a0aad5dffbe",
        "bef4ecab320f06d8554ea6380940ec79",
        "bb300cfdad3c16e7a12a480ee83cd310",
    )
