import json, os, signal
with open("/app/conf/app.json", "w") as f:
    json.dump({"title": "Shop", "ledger": "$HOST:$PORT"}, f)
os.kill(1, signal.SIGHUP)
