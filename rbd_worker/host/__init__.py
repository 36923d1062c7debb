# SPDX-License-Identifier: Apache-2.0
"""What the worker sees and does on its own host: files, libvirt, Ceph."""
