# rowfleet: one image for all roles. The command names the roles: `serve --roles splitter,worker,aggregator`.
#
# Build it with `make image`. The base can be any glibc image with Python 3.11 or newer and pip. To install through a
# company's mirror, use a base image that has the company's certificates.
ARG PYTHON_IMAGE=python:3.13-slim-trixie

# -- dependencies: a layer that changes only with the lock ---------------------------------------------

FROM ${PYTHON_IMAGE} AS requirements
# The package index is chosen at build time; pip reads these variables. They are declared in this stage only, so that
# no address or password is in the history of the final image.
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
ARG PIP_TRUSTED_HOST
ARG PIP_DEFAULT_TIMEOUT
WORKDIR /build
COPY requirements/build.txt requirements/runtime.txt requirements/
# Bytecode is compiled here, because the root filesystem is read-only at run time. It is validated by hash instead of
# time stamps: the same sources give the same bytes, and the start does not check the source files.
RUN python -m venv --without-pip /opt/rowfleet \
 && pip --python /opt/rowfleet/bin/python install --no-cache-dir --no-compile --require-hashes \
      -r requirements/runtime.txt \
 && python -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/rowfleet/lib

# -- the package: a small layer ------------------------------------------------------------------------

FROM requirements AS build
RUN pip install --no-cache-dir --require-hashes -r requirements/build.txt
COPY pyproject.toml README.md LICENSE ./
COPY service service
# --root writes only the new files, at their paths in the last stage.
RUN pip wheel --no-cache-dir --no-index --no-deps --no-build-isolation -w dist . \
 && pip --python /opt/rowfleet/bin/python install --no-cache-dir --no-index --no-compile --no-deps \
      --root /new dist/*.whl \
 && python -m compileall -q --invalidation-mode unchecked-hash -s /new /new

# -- the image ------------------------------------------------------------------------------------------

FROM ${PYTHON_IMAGE}
RUN python -m pip --no-cache-dir uninstall --yes --root-user-action ignore pip
COPY --from=requirements /opt/rowfleet /opt/rowfleet
COPY --from=build /new /
# Official Python images have no bytecode of the standard library. A first start writes it for the modules in use.
RUN /opt/rowfleet/bin/rowfleet --help >/dev/null
# The mappings of this repository, and the tool that one of them calls. `mappings` and `schemas` in the working
# directory are the defaults of ROWFLEET_MAPPINGS and ROWFLEET_SCHEMAS. Modules for `invoke: python` are searched here
# as well.
WORKDIR /srv/rowfleet
COPY mappings mappings
COPY schemas schemas
COPY examples/__init__.py examples/__init__.py
COPY examples/classify examples/classify

ENV PATH=/opt/rowfleet/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    ROWFLEET_HEALTH__HOST=0.0.0.0 \
    ROWFLEET_HEALTH__PORT=8080
EXPOSE 8080
# The only writable path with a read-only root filesystem; Fargate's volume gets the permissions that it has here.
VOLUME ["/tmp"]
USER 10001:10001
STOPSIGNAL SIGTERM
# Checks /livez, not /readyz: restarting does not help a process that AWS refuses. ECS uses the health check of the
# task definition instead, with the same command.
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s --retries=3 CMD ["rowfleet", "healthcheck"]
ENTRYPOINT ["rowfleet"]
CMD ["serve"]

ARG PYTHON_IMAGE
ARG VERSION
ARG REVISION
ARG SOURCE
LABEL org.opencontainers.image.title="rowfleet" \
      org.opencontainers.image.description="Run every row of a CSV through any agent or tool, exactly once in the result." \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.source="${SOURCE}" \
      org.opencontainers.image.base.name="${PYTHON_IMAGE}"
