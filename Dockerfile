# syntax=docker/dockerfile:1
#
# CPU:  docker build -t linewise .
# CUDA: docker build -t linewise-cuda --build-arg EXTRA=torch .
# Ray:  docker build -t linewise-ray --build-arg EXTRA=ray .
# Run:  docker run --rm --read-only -p 127.0.0.1:8000:8000 linewise

# One Python: the hashes of requirements.txt are those of the files for it.
FROM python:3.13-slim AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /src
COPY pyproject.toml service/deploy/requirements.txt ./
# EXTRA is one of the optional dependencies of pyproject.toml, such as torch or ray. With it, TORCH_INDEX is an index of
# other builds of torch, such as https://download.pytorch.org/whl/cu130; by default PyPI's. Both are checked first.
ARG EXTRA=
ARG TORCH_INDEX=
RUN EXTRA=${EXTRA} TORCH_INDEX=${TORCH_INDEX} python -c "import os, sys, tomllib; \
    e, index = os.environ['EXTRA'], os.environ['TORCH_INDEX']; \
    p = tomllib.load(open('pyproject.toml', 'rb'))['project']; \
    extras = {k: v for k, v in p['optional-dependencies'].items() if 'linewise[' not in str(v)} | {'': []}; \
    e in extras or sys.exit(f'EXTRA={e} is none of: ' + ', '.join(sorted(extras)[1:])); \
    not index or index.startswith('https://') or sys.exit(f'TORCH_INDEX={index} is no https:// address'); \
    print(*p['dependencies'], *extras[e], sep='\n')" > dependencies.txt
RUN python -m venv /opt/linewise
ENV PATH=/opt/linewise/bin:${PATH}
# Install the listed files by hash, then what EXTRA adds.
RUN --mount=type=cache,target=/root/.cache/pip pip install --require-hashes --no-deps -r requirements.txt
RUN --mount=type=cache,target=/root/.cache/pip PIP_EXTRA_INDEX_URL=${TORCH_INDEX} pip install -r dependencies.txt
COPY README.md LICENSE ./
COPY .package ./.package
COPY model ./model
COPY service ./service
COPY weights ./weights
RUN --mount=type=cache,target=/root/.cache/pip pip install --no-deps . && pip check

FROM python:3.13-slim
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
