# rowfleet: one image for all roles. The command names the roles: `serve --roles splitter,worker,aggregator`.
#
# Build it with `make image`. The base can be any glibc image with Python 3.11 or newer and pip. To install through a
# company's mirror, use a base image that has the company's certificates. The digest is that of the index of all
# platforms; `make update-base` sets it to the one that the tag has now.
ARG PYTHON_IMAGE=python:3.13-slim-trixie@sha256:7c61056e61ac89e852de05f3dc6fa51a6dd2181797bceed46aa725dd7cb2cd3b

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
# time stamps: the same sources give the same bytes, and the start does not check the source files. zstandard has its
# library twice, 12 MB each; the one that is deleted is for PyPy.
RUN python -m venv --without-pip /opt/rowfleet \
 && pip --python /opt/rowfleet/bin/python install --no-cache-dir --no-compile --require-hashes \
      -r requirements/runtime.txt \
 && find /opt/rowfleet/lib -path '*/zstandard/_cffi.*.so' -delete \
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

# -- the list of its packages ---------------------------------------------------------------------------

FROM requirements AS sbom-tool
COPY requirements/sbom.txt requirements/
RUN python -m venv --without-pip /opt/sbom \
 && pip --python /opt/sbom/bin/python install --no-cache-dir --require-hashes -r requirements/sbom.txt

# CycloneDX, of what is installed and not of what should be. Debian's packages are in the base image's own database.
FROM sbom-tool AS sbom
COPY --from=build /new /
COPY pyproject.toml ./
# The version is dynamic in pyproject.toml, and the list would have none of rowfleet itself.
RUN version=$(/opt/rowfleet/bin/python -c 'from service import __version__; print(__version__)') \
 && sed -i "s/^dynamic = .*/version = \"$version\"/" pyproject.toml \
 && /opt/sbom/bin/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible \
      --output-file sbom.json /opt/rowfleet/bin/python

# -- the image ------------------------------------------------------------------------------------------

FROM ${PYTHON_IMAGE}
RUN python -m pip --no-cache-dir uninstall --yes --root-user-action ignore pip
COPY --from=requirements /opt/rowfleet /opt/rowfleet
COPY --from=build /new /
COPY --from=sbom /build/sbom.json /opt/rowfleet/sbom.json
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
ARG CREATED
ARG SOURCE
ARG BASE_DIGEST
LABEL org.opencontainers.image.title="rowfleet" \
      org.opencontainers.image.description="Run every row of a CSV through any agent or tool, exactly once in the result." \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}" \
      org.opencontainers.image.source="${SOURCE}" \
      org.opencontainers.image.base.name="${PYTHON_IMAGE}" \
      org.opencontainers.image.base.digest="${BASE_DIGEST}"
