#!/bin/sh
# Makes a kind node of a Debian tree that has kind's files, Kubernetes and images.tar in it. It runs inside the tree (chroot), in mount and
# process namespaces of its own, so that nothing it starts or mounts outlives it.
set -eu

mount -t proc proc /proc
mount -t tmpfs tmpfs /run

# systemd starts only what a node needs: none of what Debian enables.
rm -f /etc/systemd/system/*.wants/*
for target in multi-user local-fs basic; do
  rm -f "/lib/systemd/system/$target.target.wants/"*
done
rm -f /lib/systemd/system/sysinit.target.wants/systemd-tmpfiles-setup.service
find /lib/systemd/system/sockets.target.wants -name '*udev*' -delete
find /lib/systemd/system/sockets.target.wants -name '*initctl*' -delete
echo 'ReadKMsg=no' >>/etc/systemd/journald.conf # the kernel's messages are the host's
systemctl enable --quiet containerd.service kubelet.service undo-mount-hacks.service
systemctl mask --quiet systemd-binfmt.service # what it registers would be registered in the host

# Each node gets its own identity at its first start.
: >/etc/machine-id
rm -f /etc/hostname /etc/resolv.conf

# kind's containerd.service and kubelet look in these places.
for program in containerd containerd-shim-runc-v2 ctr; do
  ln -sf "/usr/bin/$program" "/usr/local/bin/$program"
done
mkdir -p /etc/cni/net.d /etc/kubernetes/manifests /opt/cni
ln -sfn /usr/lib/cni /opt/cni/bin

# The specification that every pod's containers start from: limits are inherited, and kind's hook hides the host's product identity.
ctr oci spec |
  jq 'del(.process.rlimits) | .hooks.createContainer += [{path: "/kind/bin/mount-product-files.sh"}]' >/etc/containerd/cri-base.json

# containerd takes the images in now, once, instead of at each start of each node.
printf 'version = 2\ndisabled_plugins = ["io.containerd.grpc.v1.cri"]\n' >/run/import.toml
containerd --config /run/import.toml >/run/containerd.log 2>&1 &
containerd=$!
tries=0
until ctr version >/dev/null 2>&1; do
  tries=$((tries + 1))
  if [ "$tries" -gt 300 ] || ! kill -0 "$containerd" 2>/dev/null; then
    echo "containerd does not answer:" >&2
    tail -n 20 /run/containerd.log >&2
    exit 1
  fi
  sleep 0.1
done
ctr --namespace k8s.io images import --all-platforms --no-unpack /kind/images.tar
rm /kind/images.tar
kill "$containerd"
wait "$containerd" || true
