# The operator's image. Build:  docker build -t <your registry>/wavegate:0.1.0 .
# For a build that can be repeated, pin the base by digest:
#   --build-arg PYTHON_IMAGE=python:3.11-slim@sha256:<what `docker buildx imagetools inspect python:3.11-slim` prints>
ARG PYTHON_IMAGE=python:3.11-slim

FROM ${PYTHON_IMAGE} AS build
COPY requirements.lock /build/
# Wheels only and hashes required: nothing is compiled, and nothing runs that the lock does not name.
RUN python -m venv --without-pip /opt/venv \
    && pip --python /opt/venv/bin/python install --no-cache-dir --disable-pip-version-check \
       --no-deps --require-hashes --only-binary :all: -r /build/requirements.lock
COPY operator/wavegate /opt/operator/wavegate
# Compiled here, since the root file system is read-only at run time.
RUN python -m compileall -q /opt/venv/lib /opt/operator

FROM ${PYTHON_IMAGE}
COPY --from=build /opt/venv /opt/venv
COPY --from=build /opt/operator /opt/operator
COPY LICENSE /licenses/wavegate
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONPATH=/opt/operator \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1
WORKDIR /opt/operator
# By number, so that runAsNonRoot can be checked without reading /etc/passwd.
USER 65532:65532
EXPOSE 8080
ENTRYPOINT ["python", "-m", "wavegate"]
CMD ["run"]
