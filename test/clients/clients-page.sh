# The blocks of docs/clients.md, as they stand there: the nats command line, Python and TypeScript, with the packages that the page names.
set -euo pipefail
cache=$CLIENTS_CACHE/clients-page
mkdir -p "$cache" "$CLIENTS_WORK/page"
if [ ! -x "$cache/python/bin/python" ]; then
	python3 -m venv "$cache/python"
	"$cache/python/bin/pip" install --quiet --disable-pip-version-check nats-py==2.16.0
fi
if [ ! -x "$cache/nats" ]; then
	GOBIN=$cache go install github.com/nats-io/natscli/nats@v0.5.1
fi
if [ ! -d "$cache/node_modules/@nats-io/obj" ]; then
	(cd "$cache" && echo '{"private":true}' >package.json &&
		npm install --silent --no-fund --no-audit --no-save @nats-io/transport-node@3.4.0 @nats-io/jetstream@3.4.0 @nats-io/obj@3.4.0 typescript@5.9.3)
fi
cd "$CLIENTS_WORK/page"
export PATH=$cache:$PATH
ln -sfn "$cache/node_modules" node_modules
cat >workflow_api.json <<'END'
{"1":{"class_type":"EmptyImage","inputs":{"width":64,"height":64,"batch_size":1,"color":5}},
 "2":{"class_type":"SaveImage","inputs":{"images":["1",0],"filename_prefix":"page"}}}
END
block() { # language, heading: the block below the heading
	awk -v fence="\`\`\`$1" -v heading="$2" '
		/^## / { below = ($0 == "## " heading) }
		/^```/ { inside = below && $0 == fence; next }
		inside' "$CLIENTS_REPO/docs/clients.md"
}
png() { [ "$(head -c 4 "$1" | tail -c 3)" = PNG ] || { echo "Error: $1 is no PNG"; exit 1; } }

echo "nats"
block bash 'The `nats` command line' | bash -euo pipefail
png picture.png
rm picture.png

echo "python"
{
	printf 'import asyncio, json, os, nats\n\nasync def main():\n'
	block python Python | sed 's/nats.connect()/nats.connect(os.environ["NATS_URL"])/; s/^/    /'
	printf '    print(answer.data.decode())\n    await nc.close()\n\nasyncio.run(main())\n'
} >page.py
"$cache/python/bin/python" page.py
png page_00001_.png
rm page_00001_.png

echo "typescript"
{
	printf '%s\n' 'import { readFile, writeFile } from "node:fs/promises";' 'import { connect as connectTo, headers } from "@nats-io/transport-node";' \
		'import { jetstream } from "@nats-io/jetstream";' 'import { Objm } from "@nats-io/obj";' \
		'const connect = () => connectTo({ servers: process.env.NATS_URL });'
	block ts TypeScript
	printf '%s\n' 'console.log(answer.string());' 'await nc.close();'
} >page.mts
node_modules/.bin/tsc --noCheck --target es2022 --module nodenext --moduleResolution nodenext page.mts
node page.mjs
png page_00001_.png
echo "submit, follow, fetch and cancel with the nats command line, nats-py and nats.js, as the page says"
