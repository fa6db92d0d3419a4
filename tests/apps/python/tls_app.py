"""A WSGI application whose response has the path and the client's port."""


def app(environ, start_response):
    body = f"{environ['PATH_INFO']} {environ['REMOTE_PORT']}".encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
