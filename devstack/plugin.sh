#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# plugin.sh - devstack calls this once for each phase of stack.sh, unstack.sh
# and clean.sh:
#
#     source plugin.sh <mode> [phase]
#
# What happens in a phase is in lib/rbd-worker and lib/libvirt-listener. Each
# may run again: the end state is the same.

_XTRACE_RBD_WORKER=$(set +o | grep xtrace)
set +o xtrace

# shellcheck source=devstack/lib/rbd-worker
source "$RBD_WORKER_DIR/devstack/lib/rbd-worker"
# shellcheck source=devstack/lib/libvirt-listener
source "$RBD_WORKER_DIR/devstack/lib/libvirt-listener"

if is_service_enabled rbd-worker; then
    case "${1:-} ${2:-}" in
        "stack pre-install")
            echo_summary "Checking the settings of rbd-worker"
            rbd_worker_check_settings
            libvirt_listener_check_settings
            ;;
        "stack install")
            echo_summary "Installing rbd-worker"
            rbd_worker_install
            ;;
        "stack post-config")
            # nova-compute starts after this phase, with what is written here
            echo_summary "Configuring rbd-worker"
            rbd_worker_configure
            libvirt_listener_configure
            rbd_worker_install_hook
            libvirt_listener_restart
            ;;
        "stack extra")
            # nova-compute runs now, and nova-cpu.conf is there
            echo_summary "Starting rbd-worker"
            rbd_worker_start
            ;;
        "stack test-config")
            rbd_worker_configure_tempest
            rbd_worker_wait_hearing
            ;;
        "unstack ")
            rbd_worker_stop
            libvirt_listener_close
            ;;
        "clean ")
            rbd_worker_clean
            libvirt_listener_clean
            ;;
    esac
fi

$_XTRACE_RBD_WORKER
