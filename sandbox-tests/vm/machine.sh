# shellcheck shell=bash
# The machine that the tests run on, as both build-image and run-in-vm start it: a snapshot can only be restored
# into the machine it was taken of. Sourced, not run.

# Where images live: outside the repository, kept between runs.
cache=${XDG_CACHE_HOME:-$HOME/.cache}/stockade-vm

# The payload disk has one size for ever: a restored guest believes the size that it saw when the snapshot was taken.
# shellcheck disable=SC2034 # by those who source this
payload_size=1G

# Says what is wrong, and ends the script as a failure of the test bed (125), not of the command.
die() {
    echo "${0##*/}: $*" >&2
    exit 125
}

# The directory of one kernel's image. Named after what a snapshot depends on, so that a newer QEMU or another
# definition of the machine gets an image of its own.
image_of() {
    local here qemu definition
    here=$(dirname "${BASH_SOURCE[0]}")
    qemu=$(qemu-system-x86_64 --version 2>/dev/null | sed -n '1s/.*version \([0-9.]*\).*/\1/p')
    definition=$(cat "$here"/build-image "$here"/build-initrd "$here"/machine.sh "$here"/guest/* | sha256sum | cut -c1-12)
    echo "$cache/debian12-$1-qemu$qemu-$definition"
}

# Starts the machine. $1 image directory, $2 disk with the root file system, $3 swap disk, $4 payload disk, $5 file
# for the console; the rest goes to QEMU. To be called in the background: takes the place of its shell, and dies
# with the script that started it, however that ends.
start_machine() {
    local image=$1 root=$2 swap=$3 payload=$4 console=$5
    shift 5
    exec setpriv --pdeathsig KILL timeout --kill-after=5 "${STOCKADE_VM_TIMEOUT:-600}" setpriv --pdeathsig KILL \
        qemu-system-x86_64 -M q35 -accel tcg,thread=multi,tb-size=512 -cpu max -m 2048 -smp 2 \
        -nodefaults -no-user-config -display none -no-reboot \
        -kernel "$image/vmlinuz" -initrd "$image/initrd" -append 'console=ttyS0 panic=-1 quiet' \
        -drive "file=$root,if=virtio,format=qcow2,cache=unsafe" \
        -drive "file=$payload,if=virtio,format=raw,readonly=on" \
        -drive "file=$swap,if=virtio,format=qcow2,cache=unsafe" \
        -serial "file:$console" "$@"
}
