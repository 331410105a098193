# ComfyUI's own page in a headless Chromium. It is the folder "static" of a Python package; another gateway of the same fleet serves it.
set -euo pipefail
frontend=1.58.1
cache=$CLIENTS_CACHE/comfyui-page
here=$CLIENTS_REPO/test/clients
browser=$(command -v chromium || command -v chromium-browser || command -v google-chrome) || {
	echo "Error: there is no Chromium; 'apt-get install chromium' gets one"
	exit 1
}
mkdir -p "$cache"
cd "$cache"
if [ ! -d "static-$frontend" ]; then
	python3 -m pip download --quiet --disable-pip-version-check --no-deps "comfyui-frontend-package==$frontend"
	rm -rf unpacked
	python3 -m zipfile -e "comfyui_frontend_package-$frontend"-*.whl unpacked
	mv unpacked/comfyui_frontend_package/static "static-$frontend"
fi
if [ ! -d node_modules/playwright-core ]; then
	echo '{"private":true}' >package.json
	npm install --silent --no-fund --no-audit --no-save playwright-core@1.65.1
fi
address=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print("%s:%d" % s.getsockname())')
dispatcher gateway --gateway "$address" --gateway-keys page=page-secret,path=path-secret --gateway-frontend "$cache/static-$frontend" >"$CLIENTS_WORK/page-gateway.log" 2>&1 &
gateway=$!
trap 'kill "$gateway"; wait "$gateway" 2>/dev/null || true' EXIT
for _ in $(seq 100); do
	curl -fsS -o /dev/null "http://$address/?token=page-secret" 2>/dev/null && break
	sleep 0.2
done
cp -r "$here/lib" "$cache/"
PAGE_URL=http://$address PAGE_KEY=page-secret PAGE_PATH_KEY=path-secret BROWSER=$browser node lib/page.mjs
