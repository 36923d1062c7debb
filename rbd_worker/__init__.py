# SPDX-License-Identifier: Apache-2.0
"""rbd-worker: the sidecar beside nova-compute for guests whose disks are on Ceph RBD."""
