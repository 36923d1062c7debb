# SPDX-License-Identifier: Apache-2.0
"""Packaging of rbd-worker."""

import pathlib

import setuptools

HERE = pathlib.Path(__file__).parent

setuptools.setup(
    name="rbd-worker",
    version="0.1.0",
    description="A sidecar beside nova-compute for live migration of guests on Ceph RBD",
    long_description=(HERE / "README.md").read_text() if (HERE / "README.md").exists() else "",
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=setuptools.find_packages(
        include=["rbd_worker", "rbd_worker.*", "rpcapi", "rpcapi.*"]),
    package_data={"rbd_worker": ["py.typed", "report/page.*"], "rpcapi": ["py.typed"]},
    install_requires=[
        "cliff",
        "Jinja2>=3.1",
        "kombu>=5.3",
        "libvirt-python>=9.0",
        "MarkupSafe>=2.1",
        "msgspec>=0.19",
        "oslo.config>=9.4",
        "oslo.log>=6",
        "oslo.messaging>=14.9",
        "oslo.privsep>=3.4",
        "oslo.reports>=3.6",
        # names eventlet itself, which must not be there: see constraints.txt
        "oslo.service[threading]>=4.2",
        "prometheus_client>=0.20",
        "rich>=13",
        "tenacity>=8.2",
    ],
    extras_require={
        "docs": ["furo", "myst-parser", "reno", "Sphinx>=8"],
        # imported only where credentials for nova-api are configured
        "openstack": ["openstacksdk>=1.0"],
        "test": ["greenlet", "hypothesis", "mypy", "pytest", "pytest-rerunfailures",
                 "pytest-timeout", "pytest-xdist", "reno", "ruff"],
    },
    entry_points={
        "console_scripts": [
            "rbd-worker = rbd_worker.service:main",
            "rbd-workerctl = rbd_worker.cli.app:main",
        ],
        "oslo.config.opts": ["rbd_worker = rbd_worker.conf:list_opts"],
        "rbd_worker.cli": [
            "status = rbd_worker.cli.status:Status",
            "explain = rbd_worker.cli.explain:Explain",
            "hook install = rbd_worker.cli.hook:HookInstall",
            "hook remove = rbd_worker.cli.hook:HookRemove",
            "hook status = rbd_worker.cli.hook:HookStatus",
            "live-migrate = rbd_worker.cli.orders:LiveMigrate",
            "migration abort = rbd_worker.cli.orders:MigrationAbort",
            "migration force-complete = rbd_worker.cli.orders:MigrationForceComplete",
            "migration resolve = rbd_worker.cli.orders:MigrationResolve",
            "migration watch = rbd_worker.cli.watching:MigrationWatch",
            "migration list = rbd_worker.cli.migration:MigrationList",
            "migration show = rbd_worker.cli.migration:MigrationShow",
            "path accept = rbd_worker.cli.path:PathAccept",
            "preflight = rbd_worker.cli.preflight:PreflightRun",
            "refusal list = rbd_worker.cli.refusal:RefusalList",
            "report = rbd_worker.cli.report:Report",
            "snapshot copy = rbd_worker.cli.snapshot_jobs:SnapshotCopy",
            "snapshot create = rbd_worker.cli.snapshot:SnapshotCreate",
            "snapshot delete = rbd_worker.cli.snapshot:SnapshotDelete",
            "snapshot list = rbd_worker.cli.snapshot:SnapshotList",
            "snapshot rollback = rbd_worker.cli.snapshot_jobs:SnapshotRollback",
            "snapshot show = rbd_worker.cli.snapshot:SnapshotShow",
            "audit = rbd_worker.cli.audit:AuditRun",
            "trash list = rbd_worker.cli.trash:TrashList",
            "trash purge = rbd_worker.cli.trash:TrashPurge",
            "trash restore = rbd_worker.cli.trash:TrashRestore",
            "trash show = rbd_worker.cli.trash:TrashShow",
        ],
    },
    classifiers=[
        "Environment :: OpenStack",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3.11",
    ],
)
