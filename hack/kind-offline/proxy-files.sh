#!/bin/sh
# Runs inside a Debian tree (chroot) and prints what iptables and nft need to run elsewhere: one line "PATH SOURCE" for each file, SOURCE being
# the file in the tree that PATH means, after every symbolic link.
set -eu

programs="$(command -v xtables-nft-multi) $(command -v xtables-legacy-multi) $(command -v nft)"
extensions=$(dpkg -L libxtables12 iptables | grep '/xtables/.*\.so$')
# shellcheck disable=SC2086 # both are lists
libraries=$(ldd $programs $extensions | grep -o '/[^ :]*\.so[^ :]*' | sort -u)
for file in $programs $extensions $libraries; do
  echo "$file $(readlink -f "$file")"
done | sort -u
