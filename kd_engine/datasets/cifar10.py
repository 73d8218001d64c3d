"""CIFAR-10: 60,000 photographs of animals and vehicles, 32×32; downloaded once, 162 MB."""

from __future__ import annotations

from kd_engine.datasets._cifar import CifarDataset


class Cifar10(CifarDataset):
    name = "cifar10"
    title = "CIFAR-10"
    help = "60,000 colour photographs, 32×32, ten classes of animals and vehicles."
    folder = "cifar10"
    archive = "cifar-10-binary.tar.gz"
    unpacked = "cifar-10-batches-bin"
    md5 = "c32a1d4ab5d03f1284b67883e8d87530"
    train_files = tuple(f"data_batch_{k}.bin" for k in range(1, 6))
    test_files = ("test_batch.bin",)
    names_file = "batches.meta.txt"
    label_bytes = 1
    mean = (0.4914, 0.4822, 0.4465)
    std = (0.2470, 0.2435, 0.2616)
