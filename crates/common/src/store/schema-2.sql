-- SPDX-License-Identifier: Apache-2.0
-- Since when a lease is known to be nobody's, in milliseconds; NULL: it is somebody's, as far as is known. The engine
-- may try for 15 seconds to release the address of an endpoint that it has deleted, and would release the next
-- holder's.
ALTER TABLE address_record ADD COLUMN unclaimed INTEGER;
