#!/bin/sh
# Draws passwords for the profile `distributed` and writes what is made of them into a folder:
#   sh deploy/compose/secrets.sh [FOLDER]     deploy/compose/secrets if none is named
# What is there is kept: a database knows the password that it was made with.
set -eu
folder=${1:-$(dirname "$0")/secrets}
mkdir -p "$folder"
chmod 0700 "$folder"

draw() { od -An -N24 -tx1 /dev/urandom | tr -d ' \n'; }

# The folder is closed, the files are not: each is mounted alone, and three users read them.
put() {
    printf '%s\n' "$2" >"$folder/$1.new"
    chmod 0444 "$folder/$1.new"
    mv "$folder/$1.new" "$folder/$1"
}

if [ ! -e "$folder/store-url" ]; then
    password=$(draw)
    put postgres-password "$password"
    put store-url "postgresql://tallygate:$password@postgres:5432/tallygate"
fi
if [ ! -e "$folder/state-url" ]; then
    password=$(draw)
    put valkey-auth "requirepass $password"
    put state-url "redis://:$password@valkey:6379/0"
fi
