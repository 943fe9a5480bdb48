#!/usr/bin/env bash
# Fills a collection with bank statements, copies it into a lake, asks the lake three questions, and then
# follows a collection while it changes.
# `make demo` runs it. MONGODB_URI names the server; TRIBUTARY the binary, LAKE the lake's directory.
set -euo pipefail
cd "$(dirname "$0")/.."

: "${MONGODB_URI:?set MONGODB_URI to a MongoDB server, for example mongodb://127.0.0.1:27017}"
tributary=${TRIBUTARY:-target/release/tributary}
lake=${LAKE:-./lake}
statements=2000

if [[ ! -x $tributary ]]; then
  echo "error: $tributary is missing; build it with: cargo build --release --workspace" >&2
  exit 1
fi

# Prints a URI with the database in place of whatever it names, and its options kept:
#   mongodb://host                 → mongodb://host/DATABASE
#   mongodb://host/other?a=b       → mongodb://host/DATABASE?a=b
#   mongodb://user:word@host/other → mongodb://user:word@host/DATABASE?authSource=other
# The last because a server looks users up in the database that the URI names, or in admin if it names none.
with_database() {
  local uri=$1 database=$2 options="" scheme rest hosts path=""
  if [[ $uri == *\?* ]]; then
    options=${uri#*\?}
    uri=${uri%%\?*}
  fi
  scheme=${uri%%://*}
  rest=${uri#*://}
  hosts=${rest%%/*}
  if [[ $rest == */* ]]; then
    path=${rest#*/}
  fi
  if [[ $hosts == *@* && ${options,,} != *authsource=* && ${options,,} != *authmechanism=* ]]; then
    options+="${options:+&}authSource=${path:-admin}"
  fi
  printf '%s://%s/%s%s\n' "$scheme" "$hosts" "$database" "${options:+?$options}"
}

# Prints a command as it can be typed, then runs it. The address is shown as "$SOURCE": it may hold a password.
run() {
  local shown="" word
  for word in "$@"; do
    if [[ $word == "$SOURCE" ]]; then
      # shellcheck disable=SC2016 # the name is meant, not the value
      shown+=' "$SOURCE"'
    elif [[ $word == *[[:space:]]* ]]; then
      shown+=" \"$word\""
    else
      shown+=" $word"
    fi
  done
  printf '\n$%s\n' "$shown"
  "$@"
}

SOURCE=$(with_database "$MONGODB_URI" banking_odl)

echo "1. $statements statements of bank accounts, each with 50 to 200 transactions, into MongoDB."
echo "   SOURCE is MONGODB_URI with the database banking_odl."
run "$tributary" demo-data "$SOURCE" --collection account_statements --kind banking --count "$statements" --seed 1 --drop

echo
echo "2. The collection into a Delta table: columns, types and nesting come from the documents."
run "$tributary" copy "$SOURCE" "$lake" --collection account_statements --overwrite

echo
echo "3. What do the accounts of each region hold at the end of June?"
run "$tributary" sql --lake "$lake" "
  SELECT branch['region'] AS region, currency, count(*) AS accounts, sum(closingBalance) AS balance
  FROM banking_odl.account_statements
  WHERE statementPeriod['startDate'] = TIMESTAMP '2025-06-01T00:00:00Z'
  GROUP BY branch['region'], currency
  ORDER BY region, currency"

echo
echo "4. Where is the most money spent in euros? The transactions are an array: unnest makes them rows."
run "$tributary" sql --lake "$lake" "
  SELECT t['merchant'] AS merchant, t['category'] AS category, count(*) AS purchases, -sum(t['amount']) AS spent
  FROM (SELECT unnest(transactions) AS t FROM banking_odl.account_statements WHERE currency = 'EUR')
  WHERE t['type'] = 'debit' AND t['category'] <> 'transfer'
  GROUP BY t['merchant'], t['category']
  ORDER BY spent DESC
  LIMIT 10"

echo
echo "5. Does every statement add up to the cent? Amounts are decimals all the way, so unbalanced has to be 0."
run "$tributary" sql --lake "$lake" "
  SELECT count(*) AS statements,
         count(*) FILTER (WHERE openingBalance + moved = closingBalance) AS balanced,
         count(*) FILTER (WHERE openingBalance + moved <> closingBalance) AS unbalanced
  FROM (SELECT _id, openingBalance, closingBalance, sum(t['amount']) AS moved
        FROM (SELECT _id, openingBalance, closingBalance, unnest(transactions) AS t
              FROM banking_odl.account_statements)
        GROUP BY _id, openingBalance, closingBalance)"

echo
echo "6. Live: a second collection is followed while statements are written into it, 100 a second for eight seconds."
"$tributary" demo-data "$SOURCE" --collection live_statements --count 100 --seed 2 --drop >/dev/null 2>&1
printf '\n$ %s sync "$SOURCE" %s --collection live_statements --overwrite &\n' "$tributary" "$lake"
"$tributary" sync "$SOURCE" "$lake" --collection live_statements --overwrite 2>/dev/null &
sync=$!
trap 'kill "$sync" 2>/dev/null || true' EXIT
"$tributary" demo-data "$SOURCE" --collection live_statements --start 100 --count 800 --rate 100 --seed 2 >/dev/null 2>&1 &
for _ in 1 2 3 4 5; do
  sleep 2
  "$tributary" sql --lake "$lake" --output csv "SELECT count(*) FROM banking_odl.live_statements" 2>/dev/null |
    sed -n '2s/$/ statements in the lake/p'
done
wait %2 2>/dev/null || true
echo "   Stopping it as Ctrl-C does: what was read is committed first."
kill -TERM "$sync"
wait "$sync"

cat <<END

Done. $lake/banking_odl/account_statements is a Delta table that Spark, Databricks, DuckDB and others read as well.

Next:
  - ask your own:       $tributary sql --lake $lake "SELECT * FROM banking_odl.account_statements LIMIT 5"
  - copy your own data: $tributary copy "mongodb://…/your_database" $lake
  - keep it current:    $tributary sync "mongodb://…/your_database" ./current
  - start over:         rm -r $lake
END
