"""CIFAR-100: 60,000 photographs of a hundred things, 32×32; downloaded once, 161 MB."""

from __future__ import annotations

from kd_engine.datasets._cifar import CifarDataset


class Cifar100(CifarDataset):
    name = "cifar100"
    title = "CIFAR-100"
    help = "60,000 colour photographs, 32×32, a hundred classes: what most distillation papers report on."
    folder = "cifar100"
    archive = "cifar-100-binary.tar.gz"
    unpacked = "cifar-100-binary"
    md5 = "03b5dce01913d631647c71ecec9e9cb8"
    train_files = ("train.bin",)
    test_files = ("test.bin",)
    names_file = "fine_label_names.txt"
    label_bytes = 2  # the coarse label, then the fine one
    mean = (0.5071, 0.4867, 0.4408)
    std = (0.2675, 0.2565, 0.2761)
