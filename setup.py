"""What pyproject.toml cannot say: in a wheel, the top-level resources/ lies inside the engine's package."""

from __future__ import annotations

from setuptools import find_packages, setup

RESOURCES = "kd_engine.resources"

setup(
    packages=[*find_packages(include=["kd_engine*", "kd_gui*"]), RESOURCES],
    package_dir={RESOURCES: "resources"},
    package_data={RESOURCES: ["**/*"]},
    exclude_package_data={RESOURCES: ["__pycache__/*", "**/__pycache__/*"]},
    include_package_data=False,
)
