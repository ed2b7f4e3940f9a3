# The page in a container: uid 1000, and a file system that it only reads, but for /data.
#   docker build -t drorae .
#   docker run --rm --read-only --tmpfs /data:uid=1000 -p 7860:7860 drorae
# docs/hosting.md says more.
FROM python:3.12-slim-bookworm

WORKDIR /app
COPY requirements.lock ./
RUN pip install --no-cache-dir --require-hashes -r requirements.lock

COPY app.py LICENSE ./
COPY drorae drorae
COPY assets assets
RUN python -m compileall -q drorae \
    && useradd --uid 1000 --home-dir /data --no-create-home page \
    && mkdir /data && chown page:page /data

ENV HOME=/data \
    TMPDIR=/data \
    HF_HOME=/data/huggingface \
    GRADIO_TEMP_DIR=/data/uploads \
    GRADIO_SERVER_NAME=0.0.0.0 \
    GRADIO_SERVER_PORT=7860 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
USER page
VOLUME /data
EXPOSE 7860
HEALTHCHECK --interval=30s --timeout=10s --start-period=180s CMD ["python", "-c", \
    "import os, urllib.request; urllib.request.urlopen(f'http://127.0.0.1:{os.environ[\"GRADIO_SERVER_PORT\"]}/drorae/icon.svg', timeout=8)"]
CMD ["python", "app.py"]
