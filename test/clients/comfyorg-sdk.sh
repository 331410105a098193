# The same journey with the official TypeScript SDK.
set -euo pipefail
version=0.1.9
here=$(dirname "$0")
mkdir -p "$CLIENTS_CACHE/comfyorg-sdk"
cd "$CLIENTS_CACHE/comfyorg-sdk"
if [ ! -d node_modules/@comfyorg/sdk ]; then
	npm install --silent --no-fund --no-audit --no-save "@comfyorg/sdk@$version"
fi
cp "$here/comfyorg-sdk.mjs" journey.mjs
COMFY_BASE_URL=$GATEWAY_URL COMFY_API_KEY=$GATEWAY_KEY node journey.mjs
