"""Frameworks that know nothing of Cardea, and every interpreter that there is:
behind `wsgi`, unchanged."""

import glob
import os
import subprocess
import sys

import pytest

from conftest import ROOT
from lib.python import loaded, need_extension, write_apps

FLASK = '''
import io
import flask
app = flask.Flask(__name__)

@app.route("/")
def index():
    return flask.jsonify(query=flask.request.args["q"],
                         root=flask.request.script_root)

@app.post("/form")
def form():
    sent = flask.request.files["file"]
    return f"{flask.request.form['name']} {len(sent.read())}"

@app.route("/file")
def file():
    return flask.send_file(__file__, mimetype="text/plain")

@app.route("/stream")
def stream():
    return flask.Response(str(i) for i in range(10))

@app.route("/visits")
def visits():
    flask.session["n"] = flask.session.get("n", 0) + 1
    return str(flask.session["n"])

@app.route("/fails")
def fails():
    raise ValueError("in a view")

app.secret_key = "for this test alone"
'''
DJANGO = {
    "site1/__init__.py": "",
    "site1/settings.py": '''
SECRET_KEY = "for this test alone"
ALLOWED_HOSTS = ["example.org"]
ROOT_URLCONF = "site1.urls"
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3",
                         "NAME": "visits.db"}}
MIDDLEWARE = ["django.middleware.common.CommonMiddleware"]
''',
    "site1/urls.py": '''
import os
from django.db import connection
from django.http import FileResponse, HttpResponse, StreamingHttpResponse
from django.urls import path, reverse

def index(request, name):
    return HttpResponse(f"hello {name} {request.GET['q']} "
                        f"{reverse('index', args=[name])}")

def count(request):
    with connection.cursor() as cursor:
        cursor.execute("create table if not exists visit (at int)")
        cursor.execute("insert into visit values (1)")
        cursor.execute("select count(*) from visit")
        return HttpResponse(str(cursor.fetchone()[0]))

def upload(request):
    return HttpResponse(str(len(request.body)))

def file(request):
    return FileResponse(open(__file__, "rb"))

def stream(request):
    return StreamingHttpResponse(str(i) for i in range(10))

urlpatterns = [path("count/", count), path("upload/", upload),
               path("file/", file), path("stream/", stream),
               path("<str:name>/", index, name="index")]
''',
    "site1/wsgi.py": '''
import os
from django.core.wsgi import get_wsgi_application
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "site1.settings")
application = get_wsgi_application()
''',
}
DEBIAN = "/usr/bin/python3"


def has_module(python, name):
    return os.path.exists(python) and subprocess.run(
        [python, "-c", f"import {name}"], stdin=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL, check=False).returncode == 0


@pytest.fixture
def extension(build):
    need_extension(build)


@pytest.fixture
def debian(extension):
    """Needs the module that the test names."""
    def need(name):
        if not has_module(DEBIAN, name):
            pytest.skip(f"no {name}: scripts/setup.sh test")
    return need


def test_flask_runs_unchanged(cardea, folder, debian):
    debian("flask")
    write_apps(folder, {"site.py": FLASK})
    server = cardea(f"""
        module site {{ wsgi "site.py:app"; python "{DEBIAN}" }}
        forward http 127.0.0.1:$PORT to {{
            map GET  /flask to site
            map POST /flask to site
        }}
    """)
    loaded(server, "/flask/none")
    assert server.request("/flask/?q=%C3%A4").text == \
        '{"query":"\\u00e4","root":"/flask"}\n'
    body = (b"--x\r\nContent-Disposition: form-data; name=name\r\n\r\nwe\r\n"
            b"--x\r\nContent-Disposition: form-data; name=file; filename=f"
            b"\r\n\r\n" + b"y" * 200000 + b"\r\n--x--\r\n")
    assert server.request(
        "/flask/form", "POST", body=body,
        fields=["Content-Type: multipart/form-data; boundary=x"]
    ).text == "we 200000"
    assert server.request("/flask/file").text == FLASK
    with server.wire() as wire:
        head = wire.request("/flask/file", "HEAD")
        assert head.get("Content-Length") == str(len(FLASK))
        assert wire.request("/flask/stream").text == "0123456789"
        first = wire.request("/flask/visits")
        cookie = first.get("Set-Cookie").split(";")[0]
        again = wire.request("/flask/visits", fields=["Cookie: " + cookie])
        assert (first.text, again.text) == ("1", "2")
    assert server.request("/flask/none").status == 404
    assert server.request("/flask/fails").status == 500
    server.wait_log("module=site .*ValueError: in a view")


def test_django_runs_unchanged(cardea, folder, debian):
    debian("django")
    write_apps(folder, DJANGO)
    server = cardea(f"""
        module site {{ wsgi "site1/wsgi.py:application"; python "{DEBIAN}" }}
        forward http 127.0.0.1:$PORT to {{
            map GET  /dj to site
            map POST /dj to site
        }}
    """)
    loaded(server, "/dj/a/b/c")
    assert server.request("/dj/we/?q=1").text == "hello we 1 /dj/we/"
    assert [server.request("/dj/count/").text for _ in range(3)] == \
        ["1", "2", "3"]
    assert server.request("/dj/file/").text == DJANGO["site1/urls.py"]
    assert server.request("/dj/stream/").text == "0123456789"
    moved = server.request("/dj/we?q=1")
    assert (moved.status, moved.get("Location")) == (301, "/dj/we/?q=1")
    assert server.request("/dj/upload/", "POST",
                          body=b"y" * 300000).text == "300000"
    assert server.request("/dj/a/b/c").status == 404


def interpreters():
    """{version: path} of what Python there is from 3.9 on."""
    found = {}
    for path in [DEBIAN, sys.executable, *glob.glob("/usr/bin/python3.*"),
                 *glob.glob(os.path.expanduser(
                     "~/.pyenv/versions/*/bin/python3"))]:
        done = subprocess.run(
            [path, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, check=False)
        version = done.stdout.decode().strip()
        if done.returncode == 0 and \
                tuple(map(int, version.split("."))) >= (3, 9):
            found.setdefault(version, path)
    return found


def test_several_versions_of_python_serve_side_by_side(cardea, folder,
                                                       extension):
    there = interpreters()
    if len(there) < 2:
        pytest.skip(f"only one version of Python here: {list(there)}")
    write_apps(folder, {"version.py": """
import sys
def application(environ, start_response):
    start_response("200 OK", [])
    return [b"%d.%d" % sys.version_info[:2]]
"""})
    modules = "\n".join(
        f'module p{v.replace(".", "-")} {{ wsgi "version.py:application"; '
        f'python "{path}" }}' for v, path in there.items())
    maps = "\n".join(f'map GET /{v} to p{v.replace(".", "-")}'
                     for v in there)
    server = cardea(f"{modules}\nforward http 127.0.0.1:$PORT to {{\n"
                    f"{maps}\n}}")
    loaded(server, *[f"/{v}" for v in there])
    assert {v: server.request(f"/{v}").text for v in there} == \
        {v: v for v in there}


@pytest.mark.limit(300)  # a busy machine compiles for long
def test_pip_installs_it_where_there_is_no_network(cardea, folder, extension):
    python = next(iter(reversed(sorted(interpreters().items(), key=lambda v: [
        int(n) for n in v[0].split(".")]))))[1]
    venv = os.path.join(folder, "venv")
    for command in ([python, "-m", "venv", venv],
                    [venv + "/bin/python", "-m", "pip", "install",
                     "--no-index", "--disable-pip-version-check",
                     os.path.join(ROOT, "bindings", "python")]):
        done = subprocess.run(command, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, check=False)
        if done.returncode != 0 and "ensurepip" in done.stdout.decode():
            pytest.skip("no venv here: python3-venv")
        assert done.returncode == 0, done.stdout.decode()
    write_apps(folder, {"where.py": """
import sys
import cardea
def application(environ, start_response):
    start_response("200 OK", [])
    return [f"{cardea.__file__} {sys.path[0]}".encode()]
"""})
    server = cardea("""
        module app { wsgi "where.py:application"; python "$DIR/venv/bin/python" }
        forward http 127.0.0.1:$PORT to app
    """)
    package, first = loaded(server, "/").request("/").text.split()
    assert package.startswith(venv) and first == folder


def test_an_application_may_be_confined_to_its_folder(cardea, folder,
                                                      extension):
    write_apps(folder, {"look.py": """
def application(environ, start_response):
    start_response("200 OK", [])
    try:
        return [open(environ["QUERY_STRING"]).read().encode()]
    except OSError as e:
        return [type(e).__name__.encode()]
""", "data.txt": "inside"})
    server = cardea(f"""
        module look {{
            wsgi "look.py:application"
            python "{DEBIAN}"
            read "$DIR"
        }}
        forward http 127.0.0.1:$PORT to look
    """)
    loaded(server, "/")
    assert server.request(f"/?{folder}/data.txt").text == "inside"
    if not any("event=not-isolated" in line for line in server.log):
        assert server.request("/?/var/lib/dpkg/status").text == \
            "PermissionError"
