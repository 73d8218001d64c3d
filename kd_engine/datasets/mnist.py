"""MNIST: 70,000 handwritten digits, 60,000 to train on; downloaded once, 11 MB."""

from __future__ import annotations

from kd_engine.datasets._idx import IdxDataset


class Mnist(IdxDataset):
    name = "mnist"
    title = "MNIST"
    help = "70,000 handwritten digits, 28×28 in the middle of 32×32: the field's first exercise."
    source = "LeCun, Bottou, Bengio, Haffner: Gradient-based learning applied to document recognition, 1998"
    folders = ("mnist", "MNIST/raw")
    classes = tuple("0123456789")
    mirrors = ("https://ossci-datasets.s3.amazonaws.com/mnist/", "http://yann.lecun.com/exdb/mnist/")
    md5 = (
        "f68b3c2dcbeaaa9fbdd348bbdeb94873",
        "d53e105ee54ea40749a09fcbcd1e9432",
        "9fb629c4189551a2d022fa330f9573f3",
        "ec29112dd5afa0611ce80d1b7f02629c",
    )
