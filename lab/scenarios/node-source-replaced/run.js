(() => { require('fs').appendFileSync('/app/app.js', '\n// one more handler\n'); return 'ok'; })()
