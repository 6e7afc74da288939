# syntax=docker/dockerfile:1
#
# CPU:  docker build -t linewise .
# CUDA: docker build -t linewise-cuda --build-arg EXTRA=torch .
# Ray:  docker build -t linewise-ray --build-arg EXTRA=ray .
# Run:  docker run --rm --read-only -p 127.0.0.1:8000:8000 linewise

ARG PYTHON_VERSION=3.13

FROM python:${PYTHON_VERSION}-slim AS build
# With EXTRA=torch, an index of other builds of torch, such as https://download.pytorch.org/whl/cu130; by default PyPI's.
ARG TORCH_INDEX=
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_EXTRA_INDEX_URL=${TORCH_INDEX}
RUN python -m venv /opt/linewise
ENV PATH=/opt/linewise/bin:${PATH}
WORKDIR /src
# Dependencies first, so that their layer is reused when only the code changes.
COPY pyproject.toml service/deploy/requirements.txt ./
# Install the listed files by hash, then, with EXTRA, one of the optional dependencies of pyproject.toml, such as torch
# or ray.
RUN --mount=type=cache,target=/root/.cache/pip pip install --require-hashes --no-deps -r requirements.txt
ARG EXTRA=
RUN EXTRA=${EXTRA} python -c "import os, tomllib; p = tomllib.load(open('pyproject.toml', 'rb'))['project']; \
    e = os.environ['EXTRA']; print(*p['dependencies'], *(p['optional-dependencies'][e] if e else ()), sep='\n')" \
    > dependencies.txt
RUN --mount=type=cache,target=/root/.cache/pip pip install -r dependencies.txt
COPY README.md LICENSE ./
COPY .package ./.package
COPY model ./model
COPY service ./service
COPY weights ./weights
RUN --mount=type=cache,target=/root/.cache/pip pip install --no-deps . && pip check

FROM python:${PYTHON_VERSION}-slim
COPY --from=build /opt/linewise /opt/linewise
# A container is reachable only through published ports, so it listens on all its addresses.
ENV PATH=/opt/linewise/bin:${PATH} \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    LINEWISE_HOST=0.0.0.0 \
    LINEWISE_PORT=8000 \
    LINEWISE_ALLOW_ANONYMOUS=true
USER 10001:10001
WORKDIR /tmp
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as r; r.urlopen(f\"http://127.0.0.1:{os.environ['LINEWISE_PORT']}/healthz/ready\", timeout=4)"]
ENTRYPOINT ["linewise"]
CMD ["serve"]
