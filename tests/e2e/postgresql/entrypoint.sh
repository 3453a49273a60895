#!/bin/sh
# Makes the data folder the first time, as the official image does, and runs the server.
set -eu
: "${PGDATA:=/var/lib/postgresql/data}" "${POSTGRES_DB:=postgres}"
export PGUSER=postgres PGHOST=/var/run/postgresql
if [ ! -s "$PGDATA/PG_VERSION" ]; then
    initdb --pgdata="$PGDATA" --username=postgres --pwfile="$POSTGRES_PASSWORD_FILE" \
        --auth-local=trust --auth-host=scram-sha-256 --encoding=UTF8 --locale=C.UTF-8
    echo "host all all all scram-sha-256" >>"$PGDATA/pg_hba.conf"
    pg_ctl --pgdata="$PGDATA" --wait -o "-c listen_addresses='' -k /var/run/postgresql" start
    [ "$POSTGRES_DB" = postgres ] || createdb "$POSTGRES_DB"
    for file in /docker-entrypoint-initdb.d/*.sql; do
        [ -e "$file" ] && psql --no-psqlrc --set=ON_ERROR_STOP=1 --dbname="$POSTGRES_DB" --file="$file"
    done
    pg_ctl --pgdata="$PGDATA" --wait stop
fi
exec postgres -D "$PGDATA" -c listen_addresses='*' -k /var/run/postgresql
